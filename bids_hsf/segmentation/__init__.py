"""The core: an image and where its hippocampi lie, to labels, uncertainty and volumes."""
