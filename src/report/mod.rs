//! stub
use std::path::Path;
#[derive(Debug)]
pub struct Outputs { pub text: String }
pub fn write(_: &Path) -> Result<Outputs, std::io::Error> { Ok(Outputs{text:String::new()}) }
