"""Recipes: a dictionary from ingredient to amount."""


def scale(recipe, servings, wanted):
    """The amounts for another number of servings."""
    factor = wanted / servings
    return {name: amount * factor for name, amount in recipe.items()}


def missing(recipe, stock):
    """What a recipe needs and the stock does not have."""
    gaps = {}
    for name, amount in recipe.items():
        have = stock.get(name, 0)
        if have < amount:
            gaps[name] = amount - have
    return gaps


def can_cook(recipe, stock):
    return not missing(recipe, stock)
