"""Sandbox: functions that may do anything, in processes of their own."""
