//! Configuration: file, environment and flags resolved once into a [`Config`].
