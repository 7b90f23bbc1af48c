package nir

// Version is the version of NIR that this package writes.
const Version = "1.0.8"
