"""Tables of what decides how well lips follow speech, in motion codes alone: nothing is drawn."""
