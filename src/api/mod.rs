//! HTTP: routes, wire types, status codes, the first page.
