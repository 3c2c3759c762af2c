"""What a vector speaks for, and how two of them lie to each other."""
