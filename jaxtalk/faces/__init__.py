"""Parametric face models behind one type, landmark sets, and the rasterizer that draws them."""
