"""What a folder of results holds: tables by what they are about, what they say in plain words, what to mistrust."""
