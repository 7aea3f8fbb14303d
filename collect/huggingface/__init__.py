"""Recording expert choices of any MoE model of Hugging Face transformers."""
