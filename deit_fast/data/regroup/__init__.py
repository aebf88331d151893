"""Makes betons from betons by copying what they store: `deit-fast merge`, `split`, `subset` and `filter`."""
