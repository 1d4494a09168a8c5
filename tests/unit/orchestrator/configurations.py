"""A configuration to spoil."""

GOOD = """\
name = "tiny"
seed = 4

[data]
name = "sinusoid"

[episodes]
n_way = 0
k_shot = 5
n_query = 5
meta_test.n_query = 50

[model]
name = "mlp"
hidden = [16, 16]

[learner]
name = "maml"
inner_lr = 0.01

[outer]
steps = 10
meta_batch_size = 4
"""
