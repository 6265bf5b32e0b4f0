"""From the broker into the store: a network thread, a bounded queue, one writer thread; acked after the commit."""
