"""The names of the splits of classes. Commands that only read records import this quickly."""

META_TRAIN = "meta_train"
META_VAL = "meta_val"
META_TEST = "meta_test"
SPLITS = (META_TRAIN, META_VAL, META_TEST)
