"""metafleet/learners"""
