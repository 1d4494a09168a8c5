"""metafleet"""
