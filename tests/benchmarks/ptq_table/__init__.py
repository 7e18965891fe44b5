"""Every quantization method on every format and network of the zoo, as one table (see __main__)."""
