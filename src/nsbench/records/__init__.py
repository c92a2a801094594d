"""Records of finished runs leave, arrive and are checked: `nsbench records export | check | import | verify`."""
