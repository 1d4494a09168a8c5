"""Describes a data set by numbers, its meta-features, so that similar data sets can be found."""
