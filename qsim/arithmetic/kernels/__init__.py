"""The loops behind `qsim.matmul`: one that is exact for any unit, and register-tiled ones for the common cases."""
