"""What every column of every table means: name, unit, meaning, and over what it was taken. One word, one meaning."""
