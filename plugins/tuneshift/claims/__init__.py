"""What a claim says, its verdict, the error rate that claims share, expectations."""
