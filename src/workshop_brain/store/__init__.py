"""Where the brain keeps things: history, records, the decision ledger, order files, the lock."""
