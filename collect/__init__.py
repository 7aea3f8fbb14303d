"""Collectors: train real MoE models, record which experts they select, execute queue rules on them, measure costs.

The only room that imports torch. Letters in names are those of `traces`, plus N (rows of a batch), F (input
features), M (model width) and H (an expert's hidden width)."""
