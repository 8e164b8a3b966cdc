"""What all targets that print C++ share: identifiers, literals, index text, the Session struct, bundling."""
