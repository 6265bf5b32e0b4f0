"""Who gets an order, and when: waves, arms, rates, windows, limits of sites, floors, storms."""
