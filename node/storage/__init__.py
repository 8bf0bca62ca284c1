"""The ordered engine below a node, behind one Protocol."""
