"""Peak memory of training steps that torch inductor compiles: its nodes ordered anew, whole iterations, measurements"""
