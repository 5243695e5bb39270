"""The commands of ``resnet-loadtest``, one module each: ``NAME``, ``HELP``, ``add_options``, ``run``."""
