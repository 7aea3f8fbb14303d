"""Dispatch: how tokens reach their experts, interchangeable under any gate. Where nothing is dropped all agree."""
