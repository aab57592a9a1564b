"""lm-eval's models as backends: what scores and generates in place of our own passes."""
