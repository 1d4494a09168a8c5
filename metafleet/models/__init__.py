"""metafleet/models"""
