//! AES in the four modes that there are. GCM is put together of its parts (GHASH and counters), as a nonce may have any length and a
//! tag any of seven.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::consts::U16;
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser,
    InnerIvInit, KeyInit, StreamCipher,
};
use aes_kw::{AesKw, InnerInit};
use ctr::{Ctr32BE, Ctr128BE, CtrCore};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const BLOCK: usize = 16;
type Block = Array<u8, U16>;

/// Runs an expression with `$cipher` as the cipher over the key; none where the key is no AES key.
macro_rules! ciphered {
    ($key:expr, $cipher:ident => $run:expr) => {{
        let key: &[u8] = $key;
        match key.len() {
            16 => aes::Aes128::new_from_slice(key).ok().and_then(|$cipher| $run),
            24 => aes::Aes192::new_from_slice(key).ok().and_then(|$cipher| $run),
            32 => aes::Aes256::new_from_slice(key).ok().and_then(|$cipher| $run),
            _ => None,
        }
    }};
}

pub(super) fn cbc_encrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let iv = Block::try_from(iv).ok()?;
    ciphered!(key, cipher => Some(cbc::Encryptor::inner_iv_init(cipher, &iv).encrypt_padded_vec::<Pkcs7>(data)))
}

pub(super) fn cbc_decrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let iv = Block::try_from(iv).ok()?;
    ciphered!(key, cipher => cbc::Decryptor::inner_iv_init(cipher, &iv).decrypt_padded_vec::<Pkcs7>(data).ok())
}

/// Both ways are one. The last `bits` of the block count and wrap; none where they would come round to where they began.
pub(super) fn ctr(key: &[u8], counter: &[u8], bits: u32, data: &[u8]) -> Option<Vec<u8>> {
    let block = u128::from_be_bytes(counter.try_into().ok()?);
    let counting = u128::MAX.checked_shr(128_u32.checked_sub(bits)?)?;
    if (data.len().div_ceil(BLOCK) as u128).saturating_sub(1) > counting {
        return None;
    }
    let until_wrap = (counting - (block & counting)).saturating_add(1).saturating_mul(BLOCK as u128);
    let split = usize::try_from(until_wrap).unwrap_or(usize::MAX).min(data.len());
    let mut out = data.to_vec();
    let (before, after) = out.split_at_mut(split);
    stream(key, block, before)?;
    stream(key, block & !counting, after)?;
    Some(out)
}

fn stream(key: &[u8], block: u128, data: &mut [u8]) -> Option<()> {
    let iv = Block::from(block.to_be_bytes());
    ciphered!(key, cipher => {
        Ctr128BE::from_core(CtrCore::inner_iv_init(cipher, &iv)).try_apply_keystream(data).ok()
    })
}

/// The ciphertext and then its tag, of `tag` bytes.
pub(super) fn gcm_encrypt(key: &[u8], iv: &[u8], extra: &[u8], tag: usize, data: &[u8]) -> Option<Vec<u8>> {
    let mut out = data.to_vec();
    let (start, hash) = gcm_start(key, iv)?;
    let mask = gcm_stream(key, start, &mut out)?;
    let whole = gcm_tag(hash, extra, &out, mask);
    out.extend_from_slice(whole.get(..tag)?);
    Some(out)
}

/// None where the tag, the last `tag` bytes, is not the right one.
pub(super) fn gcm_decrypt(key: &[u8], iv: &[u8], extra: &[u8], tag: usize, data: &[u8]) -> Option<Vec<u8>> {
    let (text, given) = data.split_at_checked(data.len().checked_sub(tag)?)?;
    let (start, hash) = gcm_start(key, iv)?;
    let mut out = text.to_vec();
    let mask = gcm_stream(key, start, &mut out)?;
    let whole = gcm_tag(hash, extra, text, mask);
    let right: bool = whole.get(..tag)?.ct_eq(given).into();
    right.then_some(out)
}

/// The first counter block, and the hash under the key.
fn gcm_start(key: &[u8], iv: &[u8]) -> Option<(Block, GHash)> {
    let mut secret = Zeroizing::new([0; BLOCK]);
    ciphered!(key, cipher => { cipher.encrypt_block((&mut *secret).into()); Some(()) })?;
    let hash = GHash::new(&Block::from(*secret));
    let mut start = Block::default();
    if iv.len() == 12 {
        start[..12].copy_from_slice(iv);
        start[15] = 1;
    } else {
        let mut of_iv = hash.clone();
        of_iv.update_padded(iv);
        of_iv.update(&[lengths(0, iv.len())]);
        start.copy_from_slice(&of_iv.finalize());
    }
    Some((start, hash))
}

/// Applies the stream to the data; what masks the tag.
fn gcm_stream(key: &[u8], start: Block, data: &mut [u8]) -> Option<[u8; BLOCK]> {
    let mut mask = [0; BLOCK];
    ciphered!(key, cipher => {
        let mut stream = Ctr32BE::from_core(CtrCore::inner_iv_init(cipher, &start));
        stream.apply_keystream(&mut mask);
        stream.try_apply_keystream(data).ok()
    })?;
    Some(mask)
}

fn gcm_tag(mut hash: GHash, extra: &[u8], text: &[u8], mask: [u8; BLOCK]) -> [u8; BLOCK] {
    hash.update_padded(extra);
    hash.update_padded(text);
    hash.update(&[lengths(extra.len(), text.len())]);
    let mut tag = mask;
    for (byte, hashed) in tag.iter_mut().zip(hash.finalize()) {
        *byte ^= hashed;
    }
    tag
}

/// Two lengths in bits.
fn lengths(one: usize, other: usize) -> Block {
    let mut block = Block::default();
    block[..8].copy_from_slice(&(one as u64 * 8).to_be_bytes());
    block[8..].copy_from_slice(&(other as u64 * 8).to_be_bytes());
    block
}

pub(super) fn wrap(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; data.len() + 8];
    ciphered!(key, cipher => wrapped(&cipher_of(cipher), data, &mut out))?;
    Some(out)
}

pub(super) fn unwrap(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; data.len().checked_sub(8)?];
    ciphered!(key, cipher => unwrapped(&cipher_of(cipher), data, &mut out))?;
    Some(out)
}

fn cipher_of<C: BlockSizeUser<BlockSize = U16>>(cipher: C) -> AesKw<C> {
    AesKw::inner_init(cipher)
}

fn wrapped<C: BlockCipherEncrypt<BlockSize = U16>>(
    cipher: &AesKw<C>,
    data: &[u8],
    out: &mut [u8],
) -> Option<()> {
    cipher.wrap_key(data, out).ok().map(|_| ())
}

fn unwrapped<C: BlockCipherDecrypt<BlockSize = U16>>(
    cipher: &AesKw<C>,
    data: &[u8],
    out: &mut [u8],
) -> Option<()> {
    cipher.unwrap_key(data, out).ok().map(|_| ())
}
