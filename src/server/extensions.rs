//! What features remember of an account or a session: each keeps a type that is private to its file.

use std::any::{Any, TypeId};
use std::sync::{Arc, PoisonError, RwLock};

/// One value of each type. Few types: a list is faster than a map, and smaller.
#[derive(Default)]
pub struct Extensions(RwLock<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>);

impl Extensions {
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let wanted = TypeId::of::<T>();
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (_, value) = list.iter().find(|(id, _)| *id == wanted)?;
        Arc::clone(value).downcast().ok()
    }

    /// The value, made where there is none yet.
    pub fn get_or<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let wanted = TypeId::of::<T>();
        if let Some((_, value)) = list.iter().find(|(id, _)| *id == wanted)
            && let Ok(value) = Arc::clone(value).downcast()
        {
            return value;
        }
        let value = Arc::new(make());
        list.push((wanted, Arc::clone(&value) as Arc<dyn Any + Send + Sync>));
        value
    }

    pub fn get_or_default<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.get_or(T::default)
    }

    /// Sets the value, whatever it was.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        let wanted = TypeId::of::<T>();
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match list.iter_mut().find(|(id, _)| *id == wanted) {
            Some((_, old)) => *old = value,
            None => list.push((wanted, value)),
        }
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extensions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_value() {
        let extensions = Extensions::default();
        assert!(extensions.get::<u8>().is_none());
        assert_eq!(*extensions.get_or(|| 7_u8), 7);
        assert_eq!(*extensions.get_or(|| 8_u8), 7);
        assert_eq!(*extensions.get_or_default::<u16>(), 0);
        extensions.insert(9_u8);
        assert_eq!(extensions.get::<u8>().as_deref(), Some(&9));
    }
}
