"""What is drawn of a result, whatever draws it: lines with intervals, stacked bars, heat maps."""
