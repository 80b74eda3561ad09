"""The research wing: methods side by side under one budget, their scores, tables, plots and reports."""
