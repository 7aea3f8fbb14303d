"""The rules of linked devices: slots of experts, splits over replicas, ports, and lockstep without a barrier."""
