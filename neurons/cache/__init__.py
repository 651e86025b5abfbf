"""What is kept: the HDF5 cache. The only room that knows h5py."""
