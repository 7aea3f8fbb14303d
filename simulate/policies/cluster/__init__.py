"""The rules of linked devices: slots of experts, splits over replicas, ports, queues, lockstep without a barrier."""
