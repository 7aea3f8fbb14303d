"""Gates: which experts a token gets, and with what weights. One file per gate, its paper named there."""
