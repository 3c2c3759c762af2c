"""A specialist's turn: how its model is talked to, the prompt that fits, the answer or several."""
