"""What served layers take with equal, skewed and recorded selections, beside the cluster model"""
