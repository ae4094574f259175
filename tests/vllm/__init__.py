"""What only a real model server shows: its faults, and the whole agent over several of them."""
