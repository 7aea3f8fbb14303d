"""Offline planning (SwapMoE): models fitted to measured configurations, and searches under two budgets."""
