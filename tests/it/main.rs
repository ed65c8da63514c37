mod config;
mod config_support;
