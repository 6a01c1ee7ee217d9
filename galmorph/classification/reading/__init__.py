"""Reading of cutouts in processes of their own."""
