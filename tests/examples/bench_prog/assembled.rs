//! Programs in assembly language, as aya loads them: assembled, and wrapped in an ELF object with one table.

use aya::{Ebpf, EbpfLoader};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
    elf::R_BPF_64_64,
    write::{Object, Relocation, Symbol, SymbolId, SymbolSection},
};
use rbpf::assembler::assemble;

/// The name of the program in the loaded object.
pub(crate) const PROGRAM: &str = "program";
/// The name of its table.
pub(crate) const TABLE: &str = "TABLE";

/// What a source has where the table's address is to be loaded.
const TABLE_ADDRESS: &str = "0x7ab1e";
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;

/// Kinds of table (`linux/bpf.h`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    /// `BPF_MAP_TYPE_HASH` of numbers of 64 bits.
    Hash(u32),
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    Programs(u32),
}

impl Table {
    /// `struct bpf_map_def`: type, size of keys, size of values, entries, flags.
    fn definition(self) -> Vec<u8> {
        let words = match self {
            Self::Hash(entries) => [1, 8, 8, entries, 0],
            Self::Programs(entries) => [3, 4, 4, entries, 0],
        };
        words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
    }
}

/// A line of source that loads the table's address.
pub(crate) fn load_table(register: &str) -> String {
    format!("lddw {register}, {TABLE_ADDRESS}")
}

/// Makes an object of a program with its table, and loads the object; the program is [`PROGRAM`], and its kind that of the
/// section (`classifier`, `xdp`).
///
/// # Panics
/// When the source is wrong, or the kernel refuses the table.
pub(crate) fn load(section: &str, source: &str, table: Table) -> Ebpf {
    let code = assemble(source).unwrap_or_else(|error| panic!("{error} in\n{source}"));
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, native());
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    let maps = object.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
    let definition = table.definition();
    let table = add_symbol(&mut object, TABLE, definition.len(), SymbolSection::Section(maps));
    object.append_section_data(maps, &definition, 4);
    let text = object.add_section(Vec::new(), section.into(), SectionKind::Text);
    add_symbol(&mut object, PROGRAM, code.len(), SymbolSection::Section(text));
    object.append_section_data(text, &code, INSTRUCTION as u64);
    for (number, line) in lines(source) {
        if line.ends_with(TABLE_ADDRESS) {
            let flags = RelocationFlags::Elf { r_type: R_BPF_64_64 };
            let offset = (number * INSTRUCTION) as u64;
            let relocation = Relocation { offset, symbol: table, addend: 0, flags };
            object.add_relocation(text, relocation).expect("a relocation");
        }
    }
    let elf = object.write().expect("an object");
    EbpfLoader::new().load(&elf).unwrap_or_else(|error| panic!("{error:?} for\n{source}"))
}

fn native() -> Endianness {
    if cfg!(target_endian = "big") { Endianness::Big } else { Endianness::Little }
}

/// Each line of a source, with the number of its first instruction.
fn lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    source.lines().map(str::trim).filter(|line| !line.is_empty()).map(move |line| {
        let number = next;
        next += if line.starts_with("lddw") { 2 } else { 1 };
        (number, line)
    })
}

fn add_symbol(object: &mut Object<'_>, name: &str, size: usize, section: SymbolSection) -> SymbolId {
    let kind = if name == PROGRAM { SymbolKind::Text } else { SymbolKind::Data };
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: size as u64,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section,
        flags: SymbolFlags::None,
    })
}
