"""What steps of expert-parallel clusters take under systems that place experts, and when none of that helps"""
