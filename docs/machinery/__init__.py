"""What builds the site beside Sphinx itself: pages made from the tables of sibx, formulas, pictures."""
