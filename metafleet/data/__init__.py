"""metafleet/data"""
