__version__ = "0.1.0"
LOWEST_TRANSFORMERS = "5.24"  # as in setup.cfg
