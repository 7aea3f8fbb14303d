"""Expert loads, placements and selections in the forms that other programs read."""
