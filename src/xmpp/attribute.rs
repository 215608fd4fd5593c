//! Names of attributes in the elements that we build by hand, checked when compiled.

use minidom::rxml::{NcNameStr, xml_ncname};

pub(super) const MECHANISM: &NcNameStr = xml_ncname!("mechanism");
pub(super) const TOKEN: &NcNameStr = xml_ncname!("token");
pub(super) const TYPE: &NcNameStr = xml_ncname!("type");
pub(super) const VAR: &NcNameStr = xml_ncname!("var");
