"""Numbers in space: cameras, rotations, poses, tracks, the face mesh. No pictures, no networks."""
