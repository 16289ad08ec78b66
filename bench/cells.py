"""The cell that is measured everywhere, and how its answer is known."""

PANDAS = "import pandas as pd; print(pd.DataFrame({'a': [1, 1, 2], 'b': [3, 4, 5]}).groupby('a').sum())"
PANDAS_ANSWER = "2  5"
